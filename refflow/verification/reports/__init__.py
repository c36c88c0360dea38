"""What a verification found, in every form: `report` holds the outcomes, `junit` and `page` write them for others.

The pictures of the page are `figures`, drawn with `svg` from numbers that `evidence` and `kinks` collect in the run.
"""
