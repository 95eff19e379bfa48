"""`polysession demo`: the TPC-C workload, driven through the public doors only, with its twelve conditions checked.

The rooms, from the ground up: `size` and `schema` (the tables), `inputs` (what terminals ask for), `populate`,
`transactions` and `conditions` (what the database is asked), `plan`, `stage` and `workload` (many sessions at once),
`servers`, `witness`, `report`, `display` and `command` (the command line). Nothing else in the package
stands on this one.

It is not a TPC-C result: there are no keying and thinking times, and nothing here may be compared with published ones.
"""
