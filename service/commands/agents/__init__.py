"""The command `loadlens-service agents`: an operator asks about agents, and says what they are to do."""
