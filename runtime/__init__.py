"""From a bundle and a camera to labelled frames, without torch.

A frame's way, one file per step:

  sources.py, photos.py, video.py, camera.py, demo.py    where a `Frame` (frame.py) comes from
  preprocess.py                                          frame -> uint8 tensor, and label map -> frame
  text.py, vector_cache.py, background.py                names -> text vectors, and what competes in silence
  session.py, onnx_session.py, memory_session.py         tensors -> labels and confidence
  segmenter.py                                           all of the above: image -> `Prediction` (prediction.py)
  palette.py, lettering.py, overlay.py                   `Prediction` -> a picture for people
  sinks.py, image_sinks.py, video_sink.py, window.py     where results go; staging.py makes files appear whole
  pipeline.py, cli.py                                    the loop, and the command `ovs-run`
"""
