"""`penstock bench`: measures a server of the Open Inference Protocol from the outside."""
