import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "property",
    deadline=None,  # the first run compiles kernels
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "deep", parent=settings.get_profile("property"), derandomize=False, max_examples=1000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "property"))
