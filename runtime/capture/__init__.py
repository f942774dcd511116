"""Sources of frames: photos, video files, cameras, network streams, screens."""
