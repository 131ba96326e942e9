"""`penstock tune`: measures how a model is best served on this machine, and says why.

candidates  ways to serve a model: instances, threads, rows of a batch, queue delay
choice      what was measured -> the Pareto front, and what is chosen
search      which candidates are measured, one stage after the other
bench_server  a server of its own that loads one candidate after the other
measure     a candidate under each load
variants    other precisions of the model, as the choice is served
report      what is shown and said
command     the command line
"""
