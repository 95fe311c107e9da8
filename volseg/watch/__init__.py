"""A watch folder: what is dropped into it is segmented once, when it has come to rest.

    IN ──► Inbox ──► Delivery ──► Item ──► Segmenting ──► staged folder ──► Ledger ──► OUT/KEY
           what lies there,       a series,      the network,               journal, rename,
           what has come to rest  its key        NIfTI and objects          series.csv

The ledger is the memory: a kill at any moment leaves each series either with its folder and its line, or to be done
again.
"""
