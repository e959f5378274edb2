"""The dock and its pages: told what to show by the Session, asking for deeds through the commands."""
