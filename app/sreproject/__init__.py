"""The Django project: settings, routing of databases and URLs."""
