"""The HTTP edge. Routes parse, call one service method and render."""
