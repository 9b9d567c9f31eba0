"""The labelled sample: picture, sound, video files."""
