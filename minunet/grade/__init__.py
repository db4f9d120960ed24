"""Grade exercises: a student's file against gradient checks, adjoint identities and shapes that it has not seen.

    python -m minunet.grade my_conv.py                  a table, with the likely mistake for what is wrong
    python -m minunet.grade submissions --csv out.csv   a folder of submissions
    minunet.grade.here(globals())                       in a notebook: what its cells define

exercise.py       what an exercise is; exercises/ those of the course
cut.py            exercises cut out of the package's own sources; answers.py, later_answers.py: those that no op has
                  in this form; make.py: their files
process/          the process in which a student's code runs
submissions.py    what is handed in, read with care
grading.py        a file's text, graded; sheet.py: the marks of one check; hints.py: likely mistakes
difference.py     how an output differs from the right one; whereabouts.py: where; form.py: that it is no such array;
                  words.py: all in words
command.py        `minunet grade`; files.py: a file or a folder of submissions, graded, and the tables that are asked for
report.py         tables, CSV, Gradescope's results.json; pytest_plugin.py: ``pytest --impl FILE``
mine/             `minunet mine`: a U-Net in which a student's own functions run
reports/          pages for students and of the class
autograder.py     what Gradescope needs to grade, as a zip
in_place.py       `here`: the functions of a notebook, graded by a cell of it; notebook.py: an exercise as a notebook

See docs/teaching.md.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"in_place": ["here"]})
