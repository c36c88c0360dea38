"""Flows in other languages: `exchange` is the page for whoever writes such a program, `offline` asks it by hand.

requests     a folder of calls, and the folder of their answers
rounds       the checks are replayed until they ask nothing new, so that calls go out in bulk
answering    such a program as a `Target`
processes    running it
"""
