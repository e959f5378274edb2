"""How well masks agree: pairs of masks, and sets of samples against sets of raters. Arrays in, numbers out.

What an empty mask does, everywhere in this package:

=====================================  ==========================  =================================
quantity                               both masks empty            one mask empty
=====================================  ==========================  =================================
Dice, IoU of a pair                    NaN (undefined)             0
Hausdorff, HD95, mean surface          NaN (undefined)             infinity
distance (mm)
normalised surface Dice                NaN (undefined)             0
IoU and Dice inside GED, matched IoU,  1 (the published            0
Collective Insight, per-slice curve    convention)
and local GED map
combined sensitivity of unions         1                           annotations empty: 0 (reading
(annotations and predictions)                                      "annotations": 1); predictions empty:
                                                                   0 (reading "swapped": 1)
NCC                                    NaN (nothing varies)        NaN where a map is constant
relative-area post-processing          nothing changes             the empty mask stays empty
=====================================  ==========================  =================================

NaN means "excluded, and counted": who averages over cases or classes leaves NaN out and says how many.
"""
