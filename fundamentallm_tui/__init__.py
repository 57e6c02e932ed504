"""The full-screen console. It watches and steers a run that another process computes, and never imports torch."""
