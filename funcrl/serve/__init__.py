"""Serving exported policies over HTTP; everything here needs the extra `serve`."""
