"""From a bundle and a camera to labelled frames, without torch.

A frame's way through the packages:

  capture/       sources: photos, video files, and in live/ cameras, streams and screens (registry.py opens them)
  inference/     frame -> input tensor -> `Prediction`; temporal smoothing, key frames, panoptic segments
  engines/       sessions that run the network: ONNX Runtime, TensorRT
  vocabulary/    class names -> text vectors, background classes, changes while frames go on
  draw/          `Prediction` -> annotated picture
  sinks/         results: pictures, videos, JSON lines, a window (registry.py opens those of --save)
  viewer/        the web page
  threads/       hand-over between threads

segmenter.py joins vocabulary, engine and inference: image -> `Prediction`. pipeline.py runs source, segmenter and sinks
in their threads. cli.py (options.py, run.py) is the command `ovs-run`, doctor.py is `ovs-doctor`. interaction.py and
controls.py are what a window and the web page can change while frames go on.
"""
