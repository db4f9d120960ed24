"""Grade exercises: a student's file against gradient checks, adjoint identities and shapes that it has not seen.

    python -m minunet.grade my_conv.py                  a table, with the likely mistake for what is wrong
    python -m minunet.grade submissions --csv out.csv   a folder of submissions

`exercise` says what an exercise is, `exercises_*` are those of the course, `cut` takes them out of the package's own sources;
`child` is the student's process and `runner` our end of it; `sheet`, `grading` and `hints` judge. See docs/teaching.md.
"""
