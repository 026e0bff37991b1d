"""What a method learns from: data sets, the stream of tasks, images and captions."""
