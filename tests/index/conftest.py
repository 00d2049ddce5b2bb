import os

from hypothesis import settings

settings.register_profile("index", deadline=None, derandomize=True, max_examples=50)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "index"))
