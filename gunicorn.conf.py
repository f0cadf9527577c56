"""Gunicorn's configuration: ``gunicorn -c gunicorn.conf.py``.

Settings come from the environment or the settings file, as for
``prompt-processing serve``, which does the same.
"""

from app.service_factory import gunicorn_options

globals().update(gunicorn_options())
