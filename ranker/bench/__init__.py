"""Speed: what a ranking costs here, beside peers on the same model in the same run, and how far that is from the machine's limit.

    workload   tasks of any size, made from words
    methods    our modes, measured through the seam that everybody uses
    peers      other ways to run the same loop, and why some cannot be
    machine    memory bandwidth and matrix rate, and what decoding and prefill could be at best
    journal    measurements as they are taken; a run that was stopped goes on
    runner     the parts: machine, live, bulk, same
    report     ratios, tables, a plot

It does not know models on disk by name, nor the command line. Nothing here is used to rank.
"""
