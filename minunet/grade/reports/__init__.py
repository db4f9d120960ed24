"""What a teacher gets of a folder of submissions: a page for each student, and one of the class.

document.py  a page's content, as HTML and as Markdown
student.py   a student's page; class_page.py: the class's; picture.py: the picture on it
clusters.py  wrong outputs without a hint, gathered by what they look like; a teacher's sentences for them
folder.py    the folder that they are written to, and names of files that are safe there
"""
