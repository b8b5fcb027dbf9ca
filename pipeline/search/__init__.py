"""Search for settings: trials of settings that optuna proposes, each an ordinary run; the winner, trained anew."""
