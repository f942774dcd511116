"""Labels for an archive: photos, folders, archives and videos in, a data set of another tool's format out.

    inputs/    what is to be labelled: photos, members of archives, frames of videos, in units of a fixed order
    formats/   COCO, YOLO, masks, LabelMe, CVAT, Parquet: one module each
    review/    which labels a person should look at first

plan.py divides the inputs into units; labeller.py labels them, many frames at a time; job.py keeps what is done, so that
a run that was killed goes on where it was. run.py is the command `ovs-label`, cluster.py the same on Ray.
"""
