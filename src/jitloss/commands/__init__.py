"""The commands of ``jitloss``, one module each: ``add_arguments`` for its parser, ``command`` for its work.

Nothing here is imported by ``import jitloss``.
"""
