"""Preparation of public data sets: one script each, from the files as they are distributed to a store.

Run a script from a checkout as ``python -m data_prep.fastmri_brain SOURCE OUT``; further options go to the
command of mrigen that the script prints and runs (``--acceleration 8``, ``--jobs 4``). No script downloads
anything: each names the home of its data, whose terms of use apply.
"""
