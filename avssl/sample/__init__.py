"""The labelled sample: the frames, the audio and the files of its videos."""
