import signal

# In the background of a script, tests and the commands they start would be deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
