"""What can be done with documents, jobs and vectors. Plain Python and the ORM; verbs with keyword-only arguments."""
