"""A U-Net in which a student's own functions run: ``python -m minunet mine FILE...``.

command.py    `minunet mine`
answers.py    a student's files, graded
parts.py      which exercise stands in for which functions of minunet; adapters.py: by what calls
hand.py       a student's answer to an exercise, called in a process of its own
network.py    the network, one step of its training, and who computes what of it
training.py   trains it on generated cells
astray.py     where a wrong answer first goes astray; side_by_side.py: shown beside ours
report.py     all that came of it; picture.py: the U, as text and as a drawing
page.py       everything in one file, with the style and script of page/
"""
