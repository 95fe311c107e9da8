"""A cohort over many workers: one process, several, or a Ray cluster; a journal, and what a killed run resumes from.

    cases ──► Job ──► run_jobs ──► Crew (Serial, Pipeline, Processes, RayCrew) ──► Work.start(place)(job)
                        │  ▲                                                              │
                        ▼  │ History: what former runs finished                           ▼
                      Journal, a line a case                                    the job's output files

A job is done when the journal says so, for the same work and the same input files, and its outputs are there with the
recorded sizes. Everything else is done again.
"""
