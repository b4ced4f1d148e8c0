"""Audio files as they are opened: by libsndfile, or by FFmpeg."""
