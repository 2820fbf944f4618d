"""Why a network gave an answer: filters, links and pixels, with what each contributes."""
