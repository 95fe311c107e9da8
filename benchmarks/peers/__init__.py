"""What volseg is measured beside: how each peer is run, and the packages of its environment (`NAME.txt`)."""
