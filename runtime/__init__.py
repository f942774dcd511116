"""From a bundle and a camera to labelled frames, without torch.

A frame's way, one file per step:

  sources.py, photos.py, video.py, demo.py, repeated.py  where a `Frame` (frame.py) of a recording comes from
  live.py: camera.py, streams.py, screen.py (capture_options.py, capture.py, gstreamer.py)
                                                         and of a live source, always the newest
  preprocess.py                                          frame -> uint8 tensor, and label map -> frame
  text.py, vector_cache.py, background.py                names -> text vectors, and what competes in silence
  session.py, onnx_session.py, memory_session.py         tensors -> labels and confidence
  segmenter.py                                           all of the above: image -> `Prediction` (prediction.py)
  palette.py, lettering.py, overlay.py                   `Prediction` -> a picture for people
  sinks.py, image_sinks.py, video_sink.py                where results go; staging.py makes files appear whole
  window.py, window_keys.py                              a desktop's window: pictures out, keys and clicks in
  web_sink.py, web_server.py, web_viewers.py, web_news.py, web_guard.py, web_door.py, web_faults.py,
  web-page/, recorder.py
                                                         the same in a browser, and who may
  interaction.py: controls.py, live_vocabulary.py, inspector.py (latest.py)
                                                         what either may change or ask while frames go on
  pipeline.py (channel.py, status.py), cli.py            all at once, each in its thread; the command `ovs-run`
  doctor.py                                              the command `ovs-doctor`
"""
