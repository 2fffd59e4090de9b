"""MPFL between machines, on Flower (flower.ai): adapters that carry the algorithm's bytes.

The nodes' and the server's messages are those of :mod:`mpfl.algorithm`, unchanged; nothing is
counted, averaged or decided in here. ``node`` is Flower's ClientApp, ``server`` its ServerApp,
``launch`` starts all processes of a run on this machine.
"""
