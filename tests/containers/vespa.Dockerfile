# The stand-in for Vespa; its context is the folder tests/.
FROM sercha:under-test
COPY __init__.py /stand-in/tests/__init__.py
COPY vespa /stand-in/tests/vespa
ENV PYTHONPATH=/stand-in
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "tests.vespa", "--host", "0.0.0.0"]
CMD []
