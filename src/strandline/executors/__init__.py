"""The built-in executors, a module each; see ``strandline.executor``."""
