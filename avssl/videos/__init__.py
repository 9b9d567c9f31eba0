"""From a folder of files to an index: media, probe, layout, annotations, and commands that rewrite videos."""
