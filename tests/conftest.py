"""No window, no sound, no cache, one thread; set before anything is imported."""

import os
import tempfile

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()  # no export of an earlier day
os.environ["SDL_VIDEODRIVER"] = "dummy"
os.environ["SDL_AUDIODRIVER"] = "dummy"
os.environ["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch's threads: figures repeat, and two cores suffice
