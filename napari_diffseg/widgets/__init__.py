"""The dock and its pages: Qt only, told what to show by the Session, asking for deeds through the commands."""
