"""What is to be labelled: photos, members of archives, frames of videos, on this machine or in an object store."""
