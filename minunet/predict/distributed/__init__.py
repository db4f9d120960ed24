"""Prediction on many machines by Dask: an image is read, segmented and written shard by shard, each a task of any worker.

cluster.py       the workers: those of a scheduler, or of this machine; runs tasks, and says why they cannot be run
local.py         the workers of this machine: how they start, and how they end
plugin.py        what a worker does when it joins: it loads the network
page.py          one image, from its pixels to its results: which tasks there are, and what becomes of what they return
plan.py          shards and memory
job.py           what a task needs to know, and what it has at hand
tasks.py         the tasks: functions of files, which one process could call as well
store.py         the folder in which results grow, and what is done is recorded
found.py         objects of a whole image in files, of which a worker reads those near its block

A task reads files and writes files, and tells its end by a record. It may be run twice, or by two workers at the same time:
both write the same. So a worker may die at any moment, and a run that was stopped goes on where it was.
"""
