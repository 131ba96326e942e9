"""Text that a model makes token by token: continuous batching over one cache.

sampling    what a request asks for, and how the next token is chosen
text        tokens as they come -> text that can be shown, up to a stop string
generation  one request on its way, on the event loop
rows        which generation has which row of the batch: a pure data structure
decoder     a step of the rows, in a worker thread: the graph, the cache, the choice
generator   the loop over the steps: who waits, who joins, who leaves
version     the servable
"""
