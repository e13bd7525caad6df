"""The commands of ``jitloss``, one module each: ``add_arguments`` for its parser, ``command`` to run it.

Nothing here is imported by ``import jitloss``.
"""
