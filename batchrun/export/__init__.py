"""What has been kept, in another form: the providers' own batch output, JSON lines, CSV, one Parquet file."""

from __future__ import annotations
