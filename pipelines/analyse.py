def analyse(*a, **k):
    raise NotImplementedError
