# Inputs and outputs described by samples.
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema

sample = StandardPythonParameterType([[1.0, 2.0]])


def init():
    pass


@input_schema("data", sample)
@output_schema(StandardPythonParameterType([3.0]))
def run(data):
    print("rows", len(data))
    return [sum(row) for row in data]
