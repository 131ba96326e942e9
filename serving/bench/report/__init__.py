"""How a result is shown: a table, a document, a page, a picture; and a run as it goes on."""
