"""Why a network gave an answer, how far explanations can be believed, and how answers bear changes of the image."""
