"""The site's dashboard as text, and the program that draws it without Kibana: `python -m dashboards --help`."""
