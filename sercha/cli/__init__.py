"""The command line: the only place that runs Trio, touches signals, configures logs, prints and exits."""
