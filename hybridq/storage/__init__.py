from hybridq import lazy

__getattr__ = lazy.submodules(__name__)
